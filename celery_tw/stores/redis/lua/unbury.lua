-- UNBURY: take messages that the broker would not take out of the quarantine: back into the outbox, or away for good.
-- KEYS  1 buried  2 bad  3 outbox; then the skips keys
-- ARGV  1 skips kept ms; then per message: its id, a verb, and as the verb asks
--       'requeue', entry                     it goes out again, with the ids of its task
--       'discard', skips index, JSON, end ms it never will: a skip
-- reply a status per message: 'done' | 'gone' (it is not there, or a first call whose answer was lost has taken it)
-- Invariant: a message is in the quarantine or in the outbox, never in both, and leaves them recorded as skipped or confirmed.
local buried, bad, outbox = KEYS[1], KEYS[2], KEYS[3]
local skips_kept = ARGV[1]
local at = 1
local function next_arg() at = at + 1 return ARGV[at] end

local statuses = {}
while at < #ARGV do
  local id, verb = next_arg(), next_arg()
  local message = redis.call('HGET', buried, id)
  if verb == 'requeue' then
    local entry = next_arg()
    if message then redis.call('XADD', outbox, '*', 'entry', entry, 'delivery', 'at_least_once', 'message', message) end
  else
    local skips, skip, skip_to = KEYS[3 + tonumber(next_arg())], next_arg(), next_arg()
    if message then
      redis.call('ZADD', skips, skip_to, skip)
      redis.call('PEXPIRE', skips, skips_kept)
    end
  end
  if message then
    redis.call('HDEL', buried, id)
    redis.call('HDEL', bad, 'message ' .. id)
  end
  statuses[#statuses + 1] = message and 'done' or 'gone'
end
return statuses
