-- REMEMBERING: what becomes of the record of a run that has ended. remember_end keeps the digest of its mid, in a set that outlives its
-- period by one; forget_run takes away what only a run under way has, and its checkpoint where one is given. They come in this order: what
-- is neither on record nor remembered would run again.
local function remember_end(digest, done, kept)
  redis.call('SADD', done, digest)
  if redis.call('PTTL', done) < 0 then redis.call('PEXPIRE', done, string.format('%.0f', 2 * tonumber(kept))) end
end

local function forget_run(run, lease, checkpoint)
  if checkpoint then redis.call('DEL', run, lease, checkpoint) else redis.call('DEL', run, lease) end
end
