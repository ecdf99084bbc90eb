-- REPORT STARVING: take it upon oneself to report the messages of one queue that came in a range of time.
-- KEYS  1 leader  2 starved
-- ARGV  1 epoch  2 queue  3 where the range begins, which is where the last one ended ('' = nothing was reported yet)  4 where it ends
-- reply 1, also to a repeated call; 0 when another leader has reported meanwhile: read again
-- HDEL, of a field that there is not, comes first: it is not refused when memory is full, and what follows a first write is not either.
local leader, starved, queue, from, to = KEYS[1], KEYS[2], ARGV[2], ARGV[3], ARGV[4]
if redis.call('HGET', leader, 'epoch') ~= ARGV[1] then return redis.error_reply('STALE epoch ' .. ARGV[1]) end
redis.call('HDEL', starved, '')
local last = redis.call('HGET', starved, queue) or ''
if last == to then return 1 end
if last ~= from then return 0 end
redis.call('HSET', starved, queue, to)
return 1
