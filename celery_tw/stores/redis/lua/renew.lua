-- RENEW: prolong the lease of this very term.
-- KEYS  1 leader  2 clock
-- ARGV  1 epoch  2 lease ms
-- reply {now ms, '1' when dispatch is held for a clock step, else '0'}; error STALE when another term leads, or none.
local leader, clock, epoch, lease = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
if redis.call('HGET', leader, 'epoch') ~= epoch then return redis.error_reply('STALE epoch ' .. epoch) end
redis.call('PEXPIRE', leader, lease)
redis.call('HINCRBY', leader, 'counter', 1)
local time = redis.call('TIME')
return {string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), tostring(redis.call('EXISTS', clock))}
