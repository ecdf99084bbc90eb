-- RERENDER: give a waiting one-time task a message for the present broker.
-- KEYS  1 leader  2 entry
-- ARGV  1 epoch  2 record as it was read  3 record to stand in its place
-- reply 1 done, 0 the task has gone or changed meanwhile. Neither its due time nor its name is touched.
local leader, entry, epoch = KEYS[1], KEYS[2], ARGV[1]
if redis.call('HGET', leader, 'epoch') ~= epoch then return redis.error_reply('STALE epoch ' .. epoch) end
if redis.call('GET', entry) ~= ARGV[2] then return 0 end
redis.call('SET', entry, ARGV[3])
return 1
