-- RENEW: prolong the lease of this very term.
-- KEYS  1 leader  2 clock  3 seen
-- ARGV  1 epoch  2 lease ms
-- reply {now ms, '1' when dispatch is held for a clock step, else '0'}; error STALE when another term leads, or none.
-- SET comes after a first write, which a full memory does not refuse.
local leader, clock, seen, epoch, lease = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2]
if redis.call('HGET', leader, 'epoch') ~= epoch then return redis.error_reply('STALE epoch ' .. epoch) end
redis.call('PEXPIRE', leader, lease)
redis.call('HINCRBY', leader, 'counter', 1)
local time = redis.call('TIME')
local now_text = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('SET', seen, now_text)
return {now_text, tostring(redis.call('EXISTS', clock))}
