-- REMEMBERING: remember_end forgets a run that has ended, and its checkpoint if it is done; what stays is the digest of its mid.
local function remember_end(run, lease, running, done, checkpoint, mid, digest, verb, kept)
  redis.call('HDEL', running, mid)
  redis.call('SADD', done, digest)
  if redis.call('PTTL', done) < 0 then redis.call('PEXPIRE', done, string.format('%.0f', 2 * tonumber(kept))) end
  if verb == 'done' then redis.call('DEL', run, lease, checkpoint) else redis.call('DEL', run, lease) end
end
