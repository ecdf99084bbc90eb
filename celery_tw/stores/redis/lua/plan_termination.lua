-- PLAN TERMINATION: let a run be ended by force, later.
-- KEYS  1 terminations
-- ARGV  1 mid  2 in how many ms
-- reply 1
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[2])
redis.call('ZADD', KEYS[1], string.format('%.0f', at), ARGV[1])
return 1
