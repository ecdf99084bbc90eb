-- DRAIN: hand the next slots of one backlog to the broker.
-- KEYS  1 leader  2 backlogs  3 backlog  4 entry  5 history; then the queue keys (counted from 0)
-- ARGV  1 epoch  2 lease ms  3 history size  4 backlog member  5 slot expected next  6 slot next after these ('' = drained)
--       7 slots left after these  8 ms of the next attempt  9 number of slots, then the slots
--       then the number of commands, and per command: operation, queue index, payload
-- reply {now ms, 'fired' | 'moved' | 'removed' | 'refused <why>'}
-- Invariant: the backlog moves on only together with its messages; two leaders, or one repeating itself, cannot move it twice.
local leader, backlogs, backlog, entry, history = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local epoch, lease, history_size, member, expected, following, left, again =
  ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
if redis.call('HGET', leader, 'epoch') ~= epoch then return redis.error_reply('STALE epoch ' .. epoch) end
redis.call('PEXPIRE', leader, lease)
local time = redis.call('TIME')
local now_text = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))

local state = redis.call('HMGET', backlog, 'next', 'generation')
if state[1] ~= expected then return {now_text, 'moved'} end
local known = redis.call('HMGET', entry, 'ver', 'removed')
if not known[1] or known[2] then
  redis.call('DEL', backlog)
  redis.call('ZREM', backlogs, member)
  return {now_text, 'removed'}
end

local slots = tonumber(ARGV[9])
local at = 9 + slots + 1
local commands = {}
for i = 1, tonumber(ARGV[at]) do
  commands[i] = {operation = ARGV[at + 3 * i - 2], queue = KEYS[6 + tonumber(ARGV[at + 3 * i - 1])], payload = ARGV[at + 3 * i]}
  if commands[i].operation == 'lpush' then
    local kind = redis.call('TYPE', commands[i].queue).ok
    if kind ~= 'list' and kind ~= 'none' then
      redis.call('ZADD', backlogs, again, member)
      return {now_text, 'refused the queue key ' .. commands[i].queue .. ' holds a ' .. kind .. ', not a list'}
    end
  end
end
for _, command in ipairs(commands) do redis.call(command.operation, command.queue, command.payload) end

if slots > 0 then redis.call('HSET', entry, 'fired', now_text) end
if history_size > 0 and slots > 0 then
  for i = 1, slots do redis.call('LPUSH', history, ARGV[9 + i] .. ' ' .. now_text .. ' ' .. (state[2] or '0')) end
  redis.call('LTRIM', history, 0, history_size - 1)
end
if following == '' then
  redis.call('DEL', backlog)
  redis.call('ZREM', backlogs, member)
else
  redis.call('HSET', backlog, 'next', following, 'left', left)
  redis.call('ZADD', backlogs, again, member)
end
return {now_text, 'fired'}
