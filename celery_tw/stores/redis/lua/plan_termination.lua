-- PLAN TERMINATION: let a run be ended by force, later.
-- KEYS  1 terminations
-- ARGV  1 mid  2 in how many ms
-- reply 1
-- uses now
local at = now + tonumber(ARGV[2])
redis.call('ZADD', KEYS[1], string.format('%.0f', at), ARGV[1])
return 1
