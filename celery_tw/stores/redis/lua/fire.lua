-- FIRE: hand slots of recurring entries to the broker, and in the same step record that they are decided.
-- KEYS  1 leader  2 due  3 backlogs  4 names; then per entry: entry, history, [skips], [backlog]; then the queue keys
-- ARGV  1 epoch  2 lease ms  3 history size  4 number of entries  5 index in KEYS of the first queue key  6 skips kept ms
--       7 number of the first message; then per entry
--       id, due ms, version, slot ms, next due ms ('' = none), name to drop ('' = keep the entry),
--       skip ('' | JSON, then its end ms), backlog ('' | its member, then from, to, next, left, rate),
--       number of commands, and per command: operation (parts/commands.lua), queue index, payload
-- reply {now ms, status per entry}: 'fired' | 'moved' (due, version or mark differ) | 'early' (due, or the last slot decided, is to come) | 'refused <why>'
-- Invariants: a slot at or before the mark is never fired again; whatever may still be refused is tried before anything of its entry is
-- written, and an entry that is refused harms no other. What is left for the end (plain messages, next due times) goes to keys whose type
-- was seen, and cannot fail. A backlog's slots are counted as runs when it is opened, so that `max_runs` holds whatever is fired first.
-- Numbers grow in every queue: a call that arrives late, after one that was sent later, answers 'moved' for all.
-- PEXPIRE comes first: it is not refused when memory is full, and what follows a first write is not either.
-- uses now, kinds, by_task, commands
local leader, due, backlogs, names = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local epoch, lease, history_size, entries, first_queue, skips_kept =
  ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
if redis.call('HGET', leader, 'epoch') ~= epoch then return redis.error_reply('STALE epoch ' .. epoch) end
local late = ARGV[7] < (redis.call('HGET', leader, 'seq') or '')
redis.call('PEXPIRE', leader, lease)
if not late then redis.call('HSET', leader, 'seq', ARGV[7]) end

local key_at, arg_at = 4, 7
local function next_key() key_at = key_at + 1 return KEYS[key_at] end
local function next_arg() arg_at = arg_at + 1 return ARGV[arg_at] end

local function read_entry()
  local e = {key = next_key(), history = next_key(), id = next_arg(), due = next_arg(), version = next_arg(), slot = next_arg(),
             next_due = next_arg(), drop = next_arg(), skip = next_arg(), commands = {}}
  if e.skip ~= '' then e.skips, e.skip_to = next_key(), next_arg() end
  e.backlog = next_arg()
  if e.backlog ~= '' then
    e.backlog_key = next_key()
    e.range = {'from', next_arg(), 'to', next_arg(), 'next', next_arg(), 'left', next_arg(), 'rate', next_arg(), 'generation', '0'}
    e.left = e.range[8]
  end
  for i = 1, tonumber(next_arg()) do
    e.commands[i] = {operation = next_arg(), queue = KEYS[first_queue + tonumber(next_arg())], payload = next_arg()}
  end
  return e
end

local function verdict(e, score)
  if late then return 'moved' end
  if score ~= e.due then return 'moved' end
  if tonumber(e.due) > now or tonumber(e.slot) > now then return 'early' end
  local state = redis.pcall('HMGET', e.key, 'ver', 'mark', 'count')
  if state.err then return 'refused ' .. state.err end
  if state[1] ~= e.version or tonumber(e.slot) <= (tonumber(state[2] or '0') or 0) then return 'moved' end
  e.count = tonumber(state[3] or '0') or 0
  for _, command in ipairs(e.commands) do
    local why = objection_to(command)
    if why then return why end
  end
  return 'fired'
end

-- A plain message waits to go with the others of its queue: the queue was seen to be a list, so nothing can refuse it.
local pushes, queues = {}, {}
local function push_later(command)
  local waiting = pushes[command.queue]
  if not waiting then
    waiting = {}
    pushes[command.queue] = waiting
    queues[#queues + 1] = command.queue
  end
  waiting[#waiting + 1] = command.payload
end

local function hand_over(e)
  if #e.commands == 1 and e.commands[1].operation == 'lpush' then return push_later(e.commands[1]) end
  return send(e.commands, e.id)
end

local function keep(key, ...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then
    redis.call('DEL', key)
    reply = redis.call(...)
  end
  return reply
end

local dues = {}

local function advance(e)
  if e.drop ~= '' then
    redis.call('ZREM', due, e.id)
    redis.call('DEL', e.key, e.history)
    if redis.call('HGET', names, e.drop) == e.id then redis.call('HDEL', names, e.drop) end
    return
  end
  local fired = #e.commands > 0
  if fired then
    redis.call('HSET', e.key, 'mark', e.slot, 'count', e.count + 1, 'fired', now_text)
  else
    redis.call('HSET', e.key, 'mark', e.slot)
  end
  if e.next_due == '' then
    redis.call('ZREM', due, e.id)
  else
    dues[#dues + 1] = e.next_due
    dues[#dues + 1] = e.id
  end
  if fired and history_size > 0 and keep(e.history, 'LPUSH', e.history, e.slot .. ' ' .. now_text .. ' 0') > history_size + 10 then
    redis.call('LTRIM', e.history, 0, history_size - 1)
  end
end

local function record_missed(e)
  if e.skip ~= '' then
    keep(e.skips, 'ZREMRANGEBYSCORE', e.skips, '-inf', string.format('%.0f', now - skips_kept))
    redis.call('ZADD', e.skips, e.skip_to, e.skip)
    redis.call('PEXPIRE', e.skips, skips_kept)
  end
  if e.backlog ~= '' then
    redis.call('DEL', e.backlog_key)
    redis.call('HSET', e.backlog_key, unpack(e.range))
    redis.call('ZADD', backlogs, now_text, e.backlog)
    redis.call('HINCRBY', e.key, 'count', e.left)
  end
end

local batch, ids = {}, {}
for i = 1, entries do
  batch[i] = read_entry()
  ids[i] = batch[i].id
end
local scores = redis.call('ZMSCORE', due, unpack(ids))

local statuses = {now_text}
for i, e in ipairs(batch) do
  local status = verdict(e, scores[i])
  if status == 'fired' then
    status = hand_over(e) or status
    if status == 'fired' then
      advance(e)
      record_missed(e)
    end
  end
  statuses[i + 1] = status
end
for _, queue in ipairs(queues) do
  local waiting = pushes[queue]
  for first = 1, #waiting, 1000 do
    redis.call('LPUSH', queue, unpack(waiting, first, math.min(first + 999, #waiting)))
  end
end
if #dues > 0 then redis.call('ZADD', due, unpack(dues)) end
return statuses
