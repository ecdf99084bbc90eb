-- SAVE CHECKPOINT: keep the state of a long run, and tell what has become of the run, in one call.
-- KEYS  1 run  2 lease  3 running  4 checkpoint  5, 6 drains
-- ARGV  1 token  2 mid  3 state  4 checkpoint kept ms  5 lease ms
-- reply 'ok' | 'drain' | 'lost' (nothing was saved) | 'cancel <reason>' (saved all the same)
-- A state that differs from the last one is progress: the losses before it count no more.
local run, lease, running, checkpoint = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, mid, state, kept, lease_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local held, cancel = unpack(redis.call('HMGET', run, 'token', 'cancel'))
if held ~= token then return 'lost' end
if redis.call('GET', checkpoint) ~= state then redis.call('HSET', run, 'lost', 0) end
redis.call('SET', checkpoint, state, 'PX', kept)
redis.call('SET', lease, token, 'PX', lease_ms)
if redis.call('HEXISTS', running, mid) == 1 then redis.call('HINCRBY', running, mid, 1) end
if cancel then return 'cancel ' .. cancel end
return redis.call('EXISTS', KEYS[5], KEYS[6]) > 0 and 'drain' or 'ok'
