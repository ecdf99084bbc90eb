-- CLEAR CHECKPOINT: forget the state of a long run.
-- KEYS  1 run  2 checkpoint
-- ARGV  1 token
-- reply 'ok' | 'lost'
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 'lost' end
redis.call('DEL', KEYS[2])
return 'ok'
