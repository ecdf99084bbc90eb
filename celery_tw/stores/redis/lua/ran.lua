-- RAN: record that the body of a run has returned, and what.
-- KEYS  1 run
-- ARGV  1 token  2 result
-- reply 'ok' | 'lost' (another process has the run, or it has ended). A repeated call is answered as the first one was.
local run, token, result = KEYS[1], ARGV[1], ARGV[2]
if redis.call('HGET', run, 'token') ~= token then return 'lost' end
redis.call('HSET', run, 'state', 'ran', 'result', result)
return 'ok'
