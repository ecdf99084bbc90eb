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
-- A record is seven lines of text and then values, one a line, but for the last, which is what is left: version, mid, stored ms, last moment ms
-- or '', name, task id or '', id of the template. A template is three lines and the message, with marks for what stands in lines of the record
-- (templates.py): fingerprint, queue key, extra JSON.
-- Invariants: a task leaves the timetable only together with its message, or with the record of its skip; it is in due or in a lane. Numbers grow in every queue: a call
-- that arrives late, after one that was sent later, answers 'moved' for all.
local leader, due, names, fired_key, skips, held, by_task, templates_key, template_dues, lanes_key = unpack(KEYS, 1, 10)
local epoch, lease, entries, fingerprint, fired_kept, skips_kept =
  ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local outbox = ARGV[7] == 'outbox' and KEYS[11 + entries]
local admits, first_lane, rest_at = ARGV[11] == 'admit', 11 + entries + tonumber(ARGV[10]), 12 + 2 * entries
local wanted_kind = outbox and 'stream' or 'list'
if redis.call('HGET', leader, 'epoch') ~= epoch then return redis.error_reply('STALE epoch ' .. epoch) end
local late = ARGV[9] < (redis.call('HGET', leader, 'seq') or '')
redis.call('PEXPIRE', leader, lease)
if not late then redis.call('HSET', leader, 'seq', ARGV[9]) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local now_text = string.format('%.0f', now)

local ids, keys, pushes, kinds = {}, {}, {}, {}
for i = 1, entries do
  ids[i] = ARGV[10 + 2 * i]
  keys[i] = KEYS[10 + i]
end
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

-- The captures are schema, mid, stored ms, last moment, name, task id, id of the template, and where the values begin.
local HEAD = '^(%d+)\n([^\n]*)\n(%d+)\n(%d*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n()'
local MID, NAME, TASK_ID, VALUES, NUMBER = 2, 5, 6, 8, string.byte('#') - 64

-- A number has more digits than a number of Lua keeps exactly: it is counted in its last nine. To write digits takes a while: the last two
-- are written once for all, and the others once for a hundred numbers.
local first, last_nine = string.match(ARGV[9], '^(%d*)(%d%d%d%d%d%d%d%d%d)$')
local base, hundred, before, last_two = tonumber(last_nine) - 1, nil, nil, {}
local function number_of(i)
  local two = (base + i) % 100
  local rest = (base + i - two) / 100
  if rest ~= hundred then
    local more = rest >= 10000000 and 1 or 0
    hundred, before = rest, (more == 1 and string.format('%.0f', tonumber(first) + 1) or first) .. string.format('%07.0f', rest - more * 10000000)
  end
  last_two[two] = last_two[two] or string.format('%02.0f', two)
  return before .. last_two[two]
end

-- The pieces of the template's message, with a gap for each mark: gaps[i] is its place among the pieces, and lines[i] the line that belongs there.
local function read_template(text)
  local made_for, queue, extra, at = string.match(text or '', '^([^\n]*)\n([^\n]*)\n([^\n]*)\n()')
  if not made_for then return false end
  local once = string.find(extra, '"delivery":"at_most_once"', 1, true)
  local t = {made_for = made_for, queue = queue, once = once, pieces = {}, gaps = {}, lines = {}, last_line = VALUES - 1}
  t.numbered = string.find(text, '"tw_seq": \0#', 1, true)
  if not admits and string.find(extra, '"lane":"', 1, true) then
    local readable, told = pcall(cjson.decode, (string.gsub(extra, '%z.', '0')))
    if readable then t.fair, t.lane = told.queue, ({high = 0, medium = 1, low = 2})[told.lane] end
  end
  for letter in string.gmatch(text, '%z(.)') do t.last_line = math.max(t.last_line, string.byte(letter) - 64) end
  while true do
    local mark = string.find(text, '\0', at, true)
    t.pieces[#t.pieces + 1] = string.sub(text, at, mark and mark - 1)
    if not mark then return t end
    t.pieces[#t.pieces + 1] = ''
    t.gaps[#t.gaps + 1] = #t.pieces
    t.lines[#t.gaps] = (string.byte(text, mark + 1) or 0) - 64
    at = mark + 2
  end
end

local templates = {}
local function template_of(id)
  if templates[id] == nil then templates[id] = read_template(redis.call('HGET', templates_key, id)) end
  return templates[id]
end

-- The message of a record: the lines of its head that messages hold, and its values from *at* on, in their places. Nil if one is missing.
local line, find, sub = {}, string.find, string.sub
local function join(template, record, at)
  local pieces, gaps, lines, last_line = template.pieces, template.gaps, template.lines, template.last_line
  for i = VALUES, last_line - 1 do
    local stop = find(record, '\n', at, true)
    if not stop then return nil end
    line[i] = sub(record, at, stop - 1)
    at = stop + 1
  end
  line[last_line] = sub(record, at)
  for i = 1, #gaps do
    local value = line[lines[i]]
    if not value then return nil end
    pieces[gaps[i]] = value
  end
  return table.concat(pieces)
end

local function refusal(key, what, wanted)
  if kinds[key] == nil then kinds[key] = redis.call('TYPE', key).ok end
  return kinds[key] ~= wanted and kinds[key] ~= 'none' and
    'refused ' .. what .. ' ' .. key .. ' holds a ' .. kinds[key] .. ', not a ' .. wanted
end

local function objection_to(message)
  local readable, envelope = pcall(cjson.decode, message)
  local headers = readable and type(envelope) == 'table' and envelope.headers
  local name = type(headers) == 'table' and headers.task
  if type(name) ~= 'string' then return 'its message does not tell its task, and tw_allowed_tasks is set' end
  for pattern in string.gmatch(ARGV[8], '[^\n]+') do
    if string.find(name, pattern) then return nil end
  end
  return "the task '" .. name .. "' is not among tw_allowed_tasks"
end

local statuses, gone_ids, gone_keys, gone_names, fresh, tasks, task_of, left = {now_text}, {}, {}, {}, {}, {}, {}, {}
local taken = {}
local function leave(i)
  local source = sources[i] or due
  left[source] = left[source] or {}
  table.insert(left[source], ids[i])
end

local function take(i, name, task)
  leave(i)
  taken[ids[i]] = true
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

local laned = {}
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
local returned = {}
local function admitted_or_returned(i, status)
  if kept_in_lanes[string.match(status, '^%a+')] then return status end
  leave(i)
  returned[#returned + 1] = now_text
  returned[#returned + 1] = ids[i]
  local template_id = string.match(records[i] or '', '^[^\n]*\n[^\n]*\n[^\n]*\n[^\n]*\n[^\n]*\n[^\n]*\n([^\n]*)\n')
  if template_id then redis.call('ZADD', template_dues, 'XX', 'GT', now_text, template_id) end
  return 'returned'
end

local function decide(i)
  local score, record = scores[i], records[i]
  if not score then return 'gone' end
  if late or score ~= ARGV[11 + 2 * i] then return 'moved' end
  if not admits and tonumber(score) > now then return 'early' end
  if admits and (taken[ids[i]] or not record) then
    strays[#strays + 1] = i
    return 'gone'
  end
  if not record then return 'malformed the record is missing' end
  local schema, mid, stored, last, name, task, template_id, values_at = string.match(record, HEAD)
  schema = schema or string.match(record, '^(%d+)\n')
  if schema and schema ~= '1' then return 'newer' end
  if not values_at then return 'malformed the record cannot be read' end
  if last ~= '' and tonumber(last) < now then return skip(i, name, task) end
  local template = template_of(template_id)
  if not template then return 'malformed its template ' .. template_id .. ' is missing' end
  local queue = template.queue
  if template.made_for ~= fingerprint then return 'foreign' end
  local waiting = pushes[outbox or queue]
  if not waiting then return 'undeclared ' .. queue end
  local why = refusal(outbox or queue, 'the queue key', wanted_kind)
  if why then return why end
  line[MID], line[NAME], line[TASK_ID], line[NUMBER] = mid, name, task, template.numbered and number_of(i)
  local message = join(template, record, values_at)
  if not message then return 'malformed the record does not fit its template ' .. template_id end
  local objection = ARGV[8] ~= '' and objection_to(message)
  if objection then return 'refused ' .. objection end
  if template.lane and template.fair then return enter(i, template, template_id) end
  take(i, name, task)
  if outbox then
    message = {'entry', ids[i], 'delivery', template.once and 'at_most_once' or 'at_least_once', 'message', message}
  end
  waiting[#waiting + 1] = message
  if tonumber(stored) > now - fired_kept then
    fresh[#fresh + 1] = now_text
    fresh[#fresh + 1] = mid
  end
  return 'fired'
end

-- Several one-time tasks may wait under one task id (a retry keeps it): the others stay listed.
local function strike_out()
  local listed, alone = redis.call('HMGET', by_task, unpack(tasks)), {}
  for i, task in ipairs(tasks) do
    if listed[i] == task_of[i] then
      alone[#alone + 1] = task
    else
      local left = {}
      for id in string.gmatch(redis.call('HGET', by_task, task) or '', '%d+') do
        if id ~= task_of[i] then left[#left + 1] = id end
      end
      if #left > 0 then redis.call('HSET', by_task, task, table.concat(left, ' ')) else alone[#alone + 1] = task end
    end
  end
  if #alone > 0 then redis.call('HDEL', by_task, unpack(alone)) end
end

-- Which lane had how many turns, by the minute; the minutes before the last hour are forgotten as a new one begins.
local function count_turns()
  local admitted, minute, counts = KEYS[#KEYS], math.floor(now / 60000), {}
  for i = 1, entries do
    if statuses[i + 1] == 'fired' then counts[turns[i]] = (counts[turns[i]] or 0) + 1 end
  end
  for lane, count in pairs(counts) do
    if redis.call('HINCRBY', admitted, string.format('%d %s', minute, lane), count) == count then
      redis.call('PEXPIRE', admitted, ARGV[rest_at])
      for _, field in ipairs(redis.call('HKEYS', admitted)) do
        if tonumber(string.match(field, '^%d+') or '0') < minute - ARGV[rest_at] / 60000 then redis.call('HDEL', admitted, field) end
      end
    end
  end
end

for i = 1, entries do
  local status = decide(i)
  statuses[i + 1] = admits and admitted_or_returned(i, status) or status
end
for _, i in ipairs(strays) do leave(i) end
if not next(left) then return statuses end

for queue, waiting in pairs(pushes) do
  if outbox then
    for _, claim in ipairs(waiting) do redis.call('XADD', outbox, '*', unpack(claim)) end
  elseif #waiting > 0 then
    redis.call('LPUSH', queue, unpack(waiting))
  end
end
for _, entering in ipairs(laned) do
  for lane = entering.first, entering.first + 2 do
    if KEYS[lane] ~= entering.key then redis.call('ZREM', KEYS[lane], entering.id) end
  end
  redis.call('ZADD', entering.key, 'NX', now_text, entering.id)
  redis.call('SADD', lanes_key, entering.queue)
  redis.call('ZADD', template_dues, 'XX', 'GT', now_text, entering.template_id)
end
if #returned > 0 then redis.call('ZADD', due, unpack(returned)) end
for source, some in pairs(left) do redis.call('ZREM', source, unpack(some)) end
if admits then count_turns() end
if #gone_ids == 0 then return statuses end
redis.call('DEL', unpack(gone_keys))
redis.pcall('HDEL', held, unpack(gone_ids))
if #gone_names > 0 then redis.pcall('HDEL', names, unpack(gone_names)) end
if #tasks > 0 then strike_out() end
if #fresh > 0 then redis.pcall('ZADD', fired_key, unpack(fresh)) end
redis.pcall('ZREMRANGEBYSCORE', fired_key, '-inf', string.format('%.0f', now - fired_kept))
redis.pcall('ZREMRANGEBYSCORE', skips, '-inf', string.format('%.0f', now - skips_kept))
return statuses
