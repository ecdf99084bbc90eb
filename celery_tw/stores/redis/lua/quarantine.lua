-- QUARANTINE: set an unreadable entry aside, whole, so that it harms no other.
-- KEYS  1 leader  2 due  3 bad  4 backlogs
-- ARGV  1 epoch  2 'entry' | 'backlog'  3 id or backlog member  4 why, as JSON
-- reply 1. The record itself stays where it is, for a person to read.
local leader, due, bad, backlogs = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
if redis.call('HGET', leader, 'epoch') ~= ARGV[1] then return redis.error_reply('STALE epoch ' .. ARGV[1]) end
redis.call('ZREM', ARGV[2] == 'entry' and due or backlogs, ARGV[3])
redis.call('HSET', bad, ARGV[3], ARGV[4])
return 1
