-- CANCEL RUN: ask a run to stop; one that nobody has stops as it begins, and is not sent once more.
-- KEYS  1 run
-- ARGV  1 task id  2 reason
-- reply 'asked' | 'waits' (nobody has it) | 'gone' (it has ended, or is another task's)
local id, owner = unpack(redis.call('HMGET', KEYS[1], 'id', 'owner'))
if id ~= ARGV[1] then return 'gone' end
redis.call('HSET', KEYS[1], 'cancel', ARGV[2])
return owner == '' and 'waits' or 'asked'
