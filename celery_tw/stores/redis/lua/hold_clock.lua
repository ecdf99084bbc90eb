-- HOLD CLOCK: stop dispatch after a forward step of Redis time that nobody vouches for.
-- KEYS  1 leader  2 clock
-- ARGV  1 epoch  2 step ms
-- reply 1. The hold outlives the leader; only `tw clock accept` ends it.
-- uses now
local leader, clock, epoch, step = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
if redis.call('HGET', leader, 'epoch') ~= epoch then return redis.error_reply('STALE epoch ' .. epoch) end
redis.call('HSET', clock, 'at', now_text, 'step', step, 'epoch', epoch)
return 1
