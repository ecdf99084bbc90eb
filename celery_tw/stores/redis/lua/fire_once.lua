-- FIRE ONCE: hand one-time tasks to the broker and take them off the timetable, in one step. Those for a fair queue that are due go to their
-- lane instead; those that are admitted from there go to the broker.
-- KEYS  1 leader  2 due  3 names  4 fired  5 skips of one-time tasks  6 held  7 by-task  8 templates  9 template-dues  10 lanes; then the
--       entries; then the queue keys that the caller knows, or the outbox alone; then, of each fair queue that the caller knows, its lanes, high
--       first. To admit, it is one queue, and what was admitted to it comes after.
-- ARGV  1 epoch  2 lease ms  3 number of entries  4 fingerprint of the broker  5 fired kept ms  6 skips kept ms  7 'queue' | 'outbox';
--       8 patterns of the tasks that may be sent, one a line ('' = all)  9 number of the first message, which the others count on from;
--       10 number of queue keys  11 'fire' | 'admit'; then per entry: id, due ms or the ms when it came to its lane;
--       then to fire: the names of the fair queues; to admit: admitted kept ms, and per entry the number of its lane and the lane whose turn it has
-- reply {now ms, status per entry}: 'fired' | 'late' (past its last moment: skipped, recorded) | 'moved' | 'gone' | 'early'
--       | 'undeclared <queue key>' (call again with that key) | 'foreign' (rendered for another broker) | 'malformed <why>' | 'newer' (schema) | 'refused <why>'
--       | 'laned <queue>' | 'unlaned <queue>' (call again with that queue) | 'returned' (it cannot be admitted, and is due now: fire it, and see why)
-- Invariants: a task leaves the timetable only together with its message, or with the record of its skip; it is in due or in a lane. Numbers grow in every queue: a call
-- that arrives late, after one that was sent later, answers 'moved' for all.
-- uses now, kinds, by_task, admitted, numbers, allowed, templates
local leader, due, names, fired_key, skips, held, by_task, templates_key, template_dues, lanes_key = unpack(KEYS, 1, 10)
local epoch, lease, entries, fingerprint, fired_kept, skips_kept, allowed, first_number =
  ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[8], ARGV[9]
local outbox = ARGV[7] == 'outbox' and KEYS[11 + entries]
local admits, first_lane, rest_at = ARGV[11] == 'admit', 11 + entries + tonumber(ARGV[10]), 12 + 2 * entries
local wanted_kind = outbox and 'stream' or 'list'
if redis.call('HGET', leader, 'epoch') ~= epoch then return redis.error_reply('STALE epoch ' .. epoch) end
local late = first_number < (redis.call('HGET', leader, 'seq') or '')
redis.call('PEXPIRE', leader, lease)
if not late then redis.call('HSET', leader, 'seq', first_number) end

local ids, moments, keys, pushes = {}, {}, {unpack(KEYS, 11, 10 + entries)}, {}
for i = 1, entries do ids[i], moments[i] = ARGV[10 + 2 * i], ARGV[11 + 2 * i] end
for i = 11 + entries, first_lane - 1 do pushes[KEYS[i]] = {} end

-- Where each task waits, and since or until when. What is in a lane and has been made due, or is held, belongs there.
local sources, turns, lanes_of, strays = {}, {}, {}, {}
local function scores_in_lanes()
  local found, members, places = {}, {}, {}
  for i = 1, entries do
    local number = tonumber(ARGV[rest_at + 2 * i - 1])
    sources[i], turns[i] = KEYS[first_lane + number - 1], ARGV[rest_at + 2 * i]
    members[number], places[number] = members[number] or {}, places[number] or {}
    table.insert(members[number], ids[i])
    table.insert(places[number], i)
  end
  for number, some in pairs(members) do
    for j, score in ipairs(redis.call('ZMSCORE', KEYS[first_lane + number - 1], unpack(some))) do found[places[number][j]] = score end
  end
  local paused = redis.pcall('HMGET', held, unpack(ids))
  if paused.err then paused = {} end
  for i, score in ipairs(redis.call('ZMSCORE', due, unpack(ids))) do
    if (score or paused[i]) and found[i] then
      found[i] = false
      strays[#strays + 1] = i
    end
  end
  return found
end

local scores
if admits then
  scores = scores_in_lanes()
else
  scores = redis.call('ZMSCORE', due, unpack(ids))
  for i = 1, (#KEYS - first_lane + 1) / 3 do lanes_of[ARGV[rest_at + i - 1]] = first_lane + 3 * (i - 1) end
end
local records = redis.call('MGET', unpack(keys))

-- What is to be said of all records of a template, and where their messages go.
local function judge(t)
  t.waiting = pushes[outbox or t.queue]
  if t.made_for ~= fingerprint then
    t.status = 'foreign'
  elseif not t.waiting then
    t.status = 'undeclared ' .. t.queue
  else
    t.status = refusal(outbox or t.queue, 'the queue key', wanted_kind)
  end
  t.delivery = find(t.extra, '"delivery":"at_most_once"', 1, true) and 'at_most_once' or 'at_least_once'
  if not admits and find(t.extra, '"lane":"', 1, true) then
    local readable, told = pcall(cjson.decode, (string.gsub(t.extra, '%z.', '0')))
    if readable then t.fair, t.lane = told.queue, ({high = 0, medium = 1, low = 2})[told.lane] end
  end
  return t
end

local templates = {}
local function template_of(id)
  if templates[id] == nil then
    local t = read_template(redis.call('HGET', templates_key, id))
    templates[id] = t and judge(t) or false
  end
  return templates[id]
end

-- What is decided here is done at the end: what leaves which place, what has gone for good, and what waits in a lane or is due instead.
local statuses, left, laned, returned = {now_text}, {}, {}, {}
local taken, gone_ids, gone_keys, gone_names, fresh, tasks, task_of = {}, {}, {}, {}, {}, {}, {}
local function leave(i)
  local source = sources[i] or due
  local some = left[source]
  if not some then
    some = {}
    left[source] = some
  end
  some[#some + 1] = ids[i]
end

local function take(i, name, task)
  leave(i)
  if admits then taken[ids[i]] = true end
  gone_ids[#gone_ids + 1] = ids[i]
  gone_keys[#gone_keys + 1] = keys[i]
  if name ~= '' then gone_names[#gone_names + 1] = name end
  if task ~= '' then
    tasks[#tasks + 1] = task
    task_of[#tasks] = ids[i]
  end
end

local function skip(i, name, task)
  take(i, name, task)
  local range = string.format('{"id":%s,"name":%s,"from_ms":%s,"to_ms":%s,"count":1,"reason":"misfire:skip"}',
    ids[i], cjson.encode(name), scores[i], scores[i])
  redis.pcall('ZADD', skips, now_text, range)
  return 'late'
end

local function enter(i, template, template_id)
  local first = lanes_of[template.fair]
  if not first then return 'unlaned ' .. template.fair end
  for lane = first, first + 2 do
    local why = refusal(KEYS[lane], 'the lane', 'zset')
    if why then return why end
  end
  leave(i)
  laned[#laned + 1] = {key = KEYS[first + template.lane], first = first, id = ids[i], queue = template.fair, template_id = template_id}
  return 'laned ' .. template.fair
end

-- What cannot be admitted is made due, where it is seen why.
local kept_in_lanes = {fired = true, late = true, moved = true, gone = true, early = true, undeclared = true}
local function admitted_or_returned(i, status)
  if kept_in_lanes[string.match(status, '^%a+')] then return status end
  leave(i)
  returned[#returned + 1] = now_text
  returned[#returned + 1] = ids[i]
  local template_id = string.match(records[i] or '', '^[^\n]*\n[^\n]*\n[^\n]*\n[^\n]*\n[^\n]*\n[^\n]*\n([^\n]*)\n')
  if template_id then redis.call('ZADD', template_dues, 'XX', 'GT', now_text, template_id) end
  return 'returned'
end

local number_of, match = numbers_from(first_number), string.match
local function fire(i, record)
  local mid, stored, last, name, task, template_id, values_at = match(record, HEAD)
  if not mid then
    local schema = match(record, '^(%d+)\n')
    return schema and schema ~= '1' and 'newer' or 'malformed the record cannot be read'
  end
  if last ~= '' and tonumber(last) < now then return skip(i, name, task) end
  local template = template_of(template_id)
  if not template then return 'malformed its template ' .. template_id .. ' is missing' end
  if template.status then return template.status end
  local message = join(template, record, values_at, mid, name, task, template.numbered and number_of(i))
  if not message then return 'malformed the record does not fit its template ' .. template_id end
  local objection = allowed ~= '' and objection_to_task(message, allowed)
  if objection then return 'refused ' .. objection end
  if template.lane and template.fair then return enter(i, template, template_id) end
  take(i, name, task)
  local waiting = template.waiting
  waiting[#waiting + 1] = outbox and {'entry', ids[i], 'delivery', template.delivery, 'message', message} or message
  if tonumber(stored) > now - fired_kept then
    fresh[#fresh + 1] = now_text
    fresh[#fresh + 1] = mid
  end
  return 'fired'
end

local function decide(i)
  local score, record = scores[i], records[i]
  if not score then return 'gone' end
  if late or score ~= moments[i] then return 'moved' end
  if not admits and tonumber(score) > now then return 'early' end
  if admits and (taken[ids[i]] or not record) then
    strays[#strays + 1] = i
    return 'gone'
  end
  return record and fire(i, record) or 'malformed the record is missing'
end

local function send_messages()
  for queue, waiting in pairs(pushes) do
    if outbox then
      for _, claim in ipairs(waiting) do redis.call('XADD', outbox, '*', unpack(claim)) end
    elseif #waiting > 0 then
      redis.call('LPUSH', queue, unpack(waiting))
    end
  end
end

local function put_into_lanes()
  for _, entering in ipairs(laned) do
    for lane = entering.first, entering.first + 2 do
      if KEYS[lane] ~= entering.key then redis.call('ZREM', KEYS[lane], entering.id) end
    end
    redis.call('ZADD', entering.key, 'NX', now_text, entering.id)
    redis.call('SADD', lanes_key, entering.queue)
    redis.call('ZADD', template_dues, 'XX', 'GT', now_text, entering.template_id)
  end
end

local function move_on()
  if #returned > 0 then redis.call('ZADD', due, unpack(returned)) end
  for source, some in pairs(left) do redis.call('ZREM', source, unpack(some)) end
end

local function strike_all_out()
  local listed, alone = redis.call('HMGET', by_task, unpack(tasks)), {}
  for i, task in ipairs(tasks) do
    if listed[i] == task_of[i] then alone[#alone + 1] = task else strike_out(by_task, task, task_of[i]) end
  end
  if #alone > 0 then redis.call('HDEL', by_task, unpack(alone)) end
end

-- Which lane had how many turns.
local function count_turns()
  local counts = {}
  for i = 1, entries do
    if statuses[i + 1] == 'fired' then counts[turns[i]] = (counts[turns[i]] or 0) + 1 end
  end
  for lane, count in pairs(counts) do count_admitted(KEYS[#KEYS], lane, count, ARGV[rest_at]) end
end

local function forget()
  redis.call('DEL', unpack(gone_keys))
  if redis.call('EXISTS', held) == 1 then redis.pcall('HDEL', held, unpack(gone_ids)) end
  if #gone_names > 0 then redis.pcall('HDEL', names, unpack(gone_names)) end
  if #tasks > 0 then strike_all_out() end
  if #fresh > 0 then redis.pcall('ZADD', fired_key, unpack(fresh)) end
  redis.pcall('ZREMRANGEBYSCORE', fired_key, '-inf', string.format('%.0f', now - fired_kept))
  redis.pcall('ZREMRANGEBYSCORE', skips, '-inf', string.format('%.0f', now - skips_kept))
end

for i = 1, entries do
  local status = decide(i)
  statuses[i + 1] = admits and admitted_or_returned(i, status) or status
end
for _, i in ipairs(strays) do leave(i) end
if next(left) then
  send_messages()
  put_into_lanes()
  move_on()
  if admits then count_turns() end
  if #gone_ids > 0 then forget() end
end
return statuses
