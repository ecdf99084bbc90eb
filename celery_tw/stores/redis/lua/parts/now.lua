-- NOW: the moment of the call by Redis's own clock, in ms since 1970, as a number and as text.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local now_text = string.format('%.0f', now)
