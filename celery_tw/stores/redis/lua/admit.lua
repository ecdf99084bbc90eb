-- ADMIT: let one-time tasks that wait in the lanes of a queue go on to it, in one step, as FIRE ONCE hands over what is due. What cannot go
-- on is made due, where it is seen why.
-- KEYS  as parts/batch.lua says, with one queue key; then the lanes of the queue, high first, and what was admitted to it
-- ARGV  as parts/batch.lua says; then admitted kept ms, and per entry the number of its lane and the lane whose turn it has
-- reply {now ms, status per entry}: 'fired' | 'late' | 'moved' | 'gone' | 'undeclared <queue key>', as of FIRE ONCE
--       | 'returned' (it cannot go on, and is due now: fire it, and see why)
-- Invariant: a task leaves its lane only together with its message, with the record of its skip, or for due.
-- uses now, kinds, by_task, in_order, admitted, numbers, allowed, pushes, templates, batch, judging, leaving, firing
if redis.call('HGET', leader, 'epoch') ~= epoch then return redis.error_reply('STALE epoch ' .. epoch) end
local late = comes_late(leader, lease, first_number)

local admitted, admitted_kept, turns, in_lane = KEYS[#KEYS], ARGV[own_arg], {}, {}
for i = 1, entries do
  local lane = KEYS[own_key + tonumber(ARGV[own_arg + 2 * i - 1]) - 1]
  lane_of[i], turns[i] = lane, ARGV[own_arg + 2 * i]
  in_lane[lane] = in_lane[lane] or {}
  table.insert(in_lane[lane], i)
end

-- Since when each has been in its lane, false for what is not there. What has been made due, or is held, is a stray: it has lost its place.
local strays = {}
local function read_scores()
  local found = {}
  for lane, places in pairs(in_lane) do
    local members = {}
    for j, i in ipairs(places) do members[j] = ids[i] end
    for j, score in ipairs(redis.call('ZMSCORE', lane, unpack(members))) do found[places[j]] = score end
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

local scores, records, taken = read_scores(), redis.call('MGET', unpack(entry_keys)), {}
local function decide(i)
  local id, score, record = ids[i], scores[i], records[i]
  if not score then return 'gone' end
  if late or score ~= moments[i] then return 'moved' end
  if taken[id] or not record then
    strays[#strays + 1] = i
    return 'gone'
  end
  local status = fire(i, record)
  taken[id] = status == 'fired' or status == 'late'
  return status
end

local returned, cannot_go_on = {}, {foreign = true, malformed = true, newer = true, refused = true}
local function return_to_due(i)
  leave(i)
  returned[#returned + 1] = now_text
  returned[#returned + 1] = ids[i]
  local template_id = string.match(records[i], '^[^\n]*\n[^\n]*\n[^\n]*\n[^\n]*\n[^\n]*\n[^\n]*\n([^\n]*)\n')
  if template_id then redis.call('ZADD', template_dues, 'XX', 'GT', now_text, template_id) end
  return 'returned'
end

local statuses = {now_text}
local function count_turns()
  local counts = {}
  for i = 1, entries do
    if statuses[i + 1] == 'fired' then counts[turns[i]] = (counts[turns[i]] or 0) + 1 end
  end
  for lane, count in pairs(counts) do count_admitted(admitted, lane, count, admitted_kept) end
end

for i = 1, entries do
  local status = decide(i)
  statuses[i + 1] = cannot_go_on[string.match(status, '^%a+')] and return_to_due(i) or status
end
for _, i in ipairs(strays) do leave(i) end
if next(left) then
  send_messages()
  if #returned > 0 then redis.call('ZADD', due, unpack(returned)) end
  take_out()
  count_turns()
  forget_gone()
end
return statuses
