-- SETTLE: record what became of messages of the outbox.
-- KEYS  1 leader  2 outbox  3 refused  4 unsure  5 buried  6 bad; then the skips keys
-- ARGV  1 epoch  2 lease ms  3 skips kept ms  4 number of messages; then per message: its id in the outbox, a verb, and as the verb asks
--       'done'                               the broker has it, or its cancellation came in time
--       'refused', JSON                      it stays, with the number of refusals and the reason
--       'let go', JSON                       it leaves the outbox before it is published, and leaves a mark behind
--       'buried', JSON                       it leaves the outbox for the quarantine, message and reason
--       'skipped', skips index, JSON, end ms it is not known to be delivered, or was not, and never will be: a skip
-- reply 1. Invariant: a message leaves the outbox confirmed, cancelled, marked, buried or recorded as skipped, and in no other way.
-- Each verb may be repeated; PEXPIRE comes first, so that none is refused when memory is full.
local leader, outbox, refused, unsure, buried, bad = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local epoch, lease, skips_kept, messages = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
if redis.call('HGET', leader, 'epoch') ~= epoch then return redis.error_reply('STALE epoch ' .. epoch) end
redis.call('PEXPIRE', leader, lease)

local at = 4
local function next_arg() at = at + 1 return ARGV[at] end

local function bury(id, reason)
  local found = redis.call('XRANGE', outbox, id, id)[1]
  if not found then return end
  redis.call('HSET', buried, id, found[2][6])
  redis.call('HSET', bad, 'message ' .. id, reason)
end

local gone, known = {}, {}
for _ = 1, messages do
  local id, verb = next_arg(), next_arg()
  if verb == 'refused' then
    redis.call('HSET', refused, id, next_arg())
  else
    gone[#gone + 1] = id
    if verb == 'let go' then
      redis.call('HSET', unsure, id, next_arg())
    elseif verb == 'buried' then
      bury(id, next_arg())
    elseif verb == 'skipped' then
      local skips, skip, skip_to = KEYS[6 + tonumber(next_arg())], next_arg(), next_arg()
      redis.call('ZADD', skips, skip_to, skip)
      redis.call('PEXPIRE', skips, skips_kept)
    end
    if verb ~= 'let go' then known[#known + 1] = id end
  end
end
if #known > 0 then redis.call('HDEL', unsure, unpack(known)) end
if #gone > 0 then
  redis.call('XDEL', outbox, unpack(gone))
  redis.call('HDEL', refused, unpack(gone))
end
return 1
