-- CANCEL RUN: ask a run to stop.
-- KEYS  1 run
-- ARGV  1 task id  2 reason
-- reply 'asked' | 'gone' (it has ended, or is another task's)
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 'gone' end
redis.call('HSET', KEYS[1], 'cancel', ARGV[2])
return 'asked'
