-- DRAIN: hand the next slots of one backlog to the broker, or close it.
-- KEYS  1 leader  2 backlogs  3 backlog  4 entry  5 history  6 skips; then the queue keys (counted from 0)
-- ARGV  1 epoch  2 lease ms  3 history size  4 backlog member  5 slot expected next  6 slot next after these ('' = drained)
--       7 slots left after these  8 ms of the next attempt  9 skip ('' | JSON)  10 its end ms  11 skips kept ms
--       12 version of the entry that the slots are of ('' = no matter which)  13 number of slots, then the slots; then the number of
--       commands, and per command: operation (parts/commands.lua), queue index, payload; at last the number of the first message
-- reply {now ms, 'fired' | 'moved' (the backlog, or the entry, is not as known) | 'removed' | 'early' (the clock was set back behind these
--       slots: the backlog waits until they are past again) | 'refused <why>'}
-- Invariant: the backlog moves on right after its messages; two leaders, or one repeating itself, cannot move it twice. Whatever may be
-- refused is seen before anything is written, so a backlog that waits has fired nothing.
-- uses now, kinds, by_task, in_order, commands
local leader, backlogs, backlog, entry, history, skips = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local epoch, lease, history_size, member, expected, following, left, again, skip, skip_to, skips_kept, version, slots =
  ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11], ARGV[12], tonumber(ARGV[13])
if redis.call('HGET', leader, 'epoch') ~= epoch then return redis.error_reply('STALE epoch ' .. epoch) end
local late = comes_late(leader, lease, ARGV[#ARGV])

local state = redis.call('HMGET', backlog, 'next', 'generation')
if late then return {now_text, 'moved'} end
if state[1] ~= expected then return {now_text, 'moved'} end
local known = redis.call('HMGET', entry, 'ver', 'removed')
if not known[1] or known[2] then
  redis.call('DEL', backlog)
  redis.call('ZREM', backlogs, member)
  return {now_text, 'removed'}
end
if version ~= '' and known[1] ~= version then return {now_text, 'moved'} end
if slots > 0 and tonumber(ARGV[13 + slots]) > now then
  redis.call('ZADD', backlogs, ARGV[13 + slots], member)
  return {now_text, 'early'}
end

local at = 13 + slots
local function next_arg() at = at + 1 return ARGV[at] end
local commands = read_commands(next_arg, 7)
local refused = objection_to_any(commands) or send(commands, string.match(member, '^%d+'))
if refused then
  redis.call('ZADD', backlogs, again, member)
  return {now_text, refused}
end

if following == '' then
  redis.call('DEL', backlog)
  redis.call('ZREM', backlogs, member)
else
  redis.call('HSET', backlog, 'next', following, 'left', left)
  redis.call('ZADD', backlogs, again, member)
end
if slots > 0 then redis.call('HSET', entry, 'fired', now_text) end
if history_size > 0 and slots > 0 and redis.call('TYPE', history).ok ~= 'string' then
  for i = 1, slots do redis.call('LPUSH', history, ARGV[13 + i] .. ' ' .. now_text .. ' ' .. (state[2] or '0')) end
  redis.call('LTRIM', history, 0, history_size - 1)
end
if skip ~= '' then
  redis.call('ZADD', skips, skip_to, skip)
  redis.call('PEXPIRE', skips, skips_kept)
end
return {now_text, 'fired'}
