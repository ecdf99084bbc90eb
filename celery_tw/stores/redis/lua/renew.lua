-- RENEW: prolong the lease of this very term.
-- KEYS  1 leader  2 clock  3 seen  4 news
-- ARGV  1 epoch  2 lease ms  3 news kept ms
-- reply {now ms, '1' when dispatch is held for a clock step, else '0'}; error STALE when another term leads, or none.
-- SET comes after a first write, which a full memory does not refuse.
-- uses now
local leader, clock, seen, news, epoch, lease = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], ARGV[2]
if redis.call('HGET', leader, 'epoch') ~= epoch then return redis.error_reply('STALE epoch ' .. epoch) end
redis.call('PEXPIRE', leader, lease)
redis.call('HINCRBY', leader, 'counter', 1)
redis.call('SET', seen, now_text)
redis.call('XTRIM', news, 'MINID', string.format('%.0f', now - tonumber(ARGV[3])))
return {now_text, tostring(redis.call('EXISTS', clock))}
