-- FIRE ONCE: hand one-time tasks that are due to the broker and take them off the timetable, in one step. Those for a fair queue go to
-- their lane instead, from which ADMIT lets them go on.
-- KEYS  as parts/batch.lua says; then, of each fair queue that the caller knows, its lanes, high first
-- ARGV  as parts/batch.lua says; then the names of the fair queues
-- reply {now ms, status per entry}: 'fired' | 'late' (past its last moment: skipped, recorded) | 'moved' | 'gone' | 'early'
--       | 'undeclared <queue key>' (call again with that key) | 'foreign' (rendered for another broker) | 'malformed <why>' | 'newer' (schema) | 'refused <why>'
--       | 'laned <queue>' | 'unlaned <queue>' (call again with that queue)
-- Invariant: a task leaves the timetable only together with its message, or with the record of its skip; it is in due or in a lane.
-- uses now, kinds, by_task, in_order, numbers, allowed, pushes, templates, batch, judging, leaving, firing
if redis.call('HGET', leader, 'epoch') ~= epoch then return redis.error_reply('STALE epoch ' .. epoch) end
local late = comes_late(leader, lease, first_number)

-- Of each fair queue, where its lanes begin in KEYS.
local lanes_of, laned = {}, {}
for i = 0, #ARGV - own_arg do lanes_of[ARGV[own_arg + i]] = own_key + 3 * i end

-- Which lane a template names; what names none after all is sent.
local function read_lane(t)
  local readable, told = pcall(cjson.decode, (string.gsub(t.extra, '%z.', '0')))
  if readable then t.fair, t.lane = told.queue, ({high = 0, medium = 1, low = 2})[told.lane] end
  t.for_lane = t.fair and t.lane
end

local function enter(i, template, template_id)
  if not template.fair then read_lane(template) end
  if not template.for_lane then return nil end
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

local scores, records = redis.call('ZMSCORE', due, unpack(ids)), redis.call('MGET', unpack(entry_keys))
local function decide(i)
  local score, record = scores[i], records[i]
  if not score then return 'gone' end
  if late or score ~= moments[i] then return 'moved' end
  if tonumber(score) > now then return 'early' end
  return record and fire(i, record, enter) or 'malformed the record is missing'
end

local statuses = {now_text}
for i = 1, entries do statuses[i + 1] = decide(i) end
if next(left) then
  send_messages()
  put_into_lanes()
  take_out()
  forget_gone()
end
return statuses
