-- KINDS: refusal(key, what it should be, type) tells why something of that type cannot be put into a key, or false. A key's type is asked for
-- once a call.
local kinds = {}
local function refusal(key, what, wanted)
  kinds[key] = kinds[key] or redis.call('TYPE', key).ok
  return kinds[key] ~= wanted and kinds[key] ~= 'none' and
    'refused ' .. what .. ' ' .. key .. ' holds a ' .. kinds[key] .. ', not a ' .. wanted
end
