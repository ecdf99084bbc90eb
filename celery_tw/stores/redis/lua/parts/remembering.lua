-- REMEMBERING: what becomes of the record of a run that has ended. forget_run takes away what only a run under way has, and its checkpoint
-- where one is given; remember_end keeps the digest of its mid, in a set that outlives its period by one.
local function forget_run(mid, running, run, lease, checkpoint)
  redis.call('HDEL', running, mid)
  if checkpoint then redis.call('DEL', run, lease, checkpoint) else redis.call('DEL', run, lease) end
end

local function remember_end(digest, done, kept)
  redis.call('SADD', done, digest)
  if redis.call('PTTL', done) < 0 then redis.call('PEXPIRE', done, string.format('%.0f', 2 * tonumber(kept))) end
end
