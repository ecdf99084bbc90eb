-- FIRE: hand slots of recurring entries to the broker, and in the same step record that they are decided.
-- KEYS, ARGV  as parts/slots.lua says
-- reply {now ms, status per entry}: 'fired' | 'moved' (due, version or mark differ) | 'early' (due, or the last slot decided, is to come) | 'refused <why>'
-- Invariants: a slot at or before the mark is never fired again; whatever may still be refused is tried before anything of its entry is
-- written, and an entry that is refused harms no other. What is left for the end (plain messages, next due times) goes to keys whose type
-- was seen, and cannot fail.
-- uses now, kinds, by_task, in_order, commands, pushes, slots, deciding
if redis.call('HGET', leader, 'epoch') ~= epoch then return redis.error_reply('STALE epoch ' .. epoch) end
local late = comes_late(leader, lease, first_number)

local batch, ids = {}, {}
for i = 1, entries do
  batch[i] = read_slot()
  ids[i] = batch[i].id
end
local scores = redis.call('ZMSCORE', due, unpack(ids))

local function verdict(e, score)
  if late then return 'moved' end
  if score ~= e.due then return 'moved' end
  if tonumber(e.due) > now or tonumber(e.slot) > now then return 'early' end
  local state = redis.pcall('HMGET', e.key, 'ver', 'mark', 'count')
  if state.err then return 'refused ' .. state.err end
  if state[1] ~= e.version or tonumber(e.slot) <= (tonumber(state[2] or '0') or 0) then return 'moved' end
  e.count = tonumber(state[3] or '0') or 0
  return objection_to_any(e.commands) or 'fired'
end

-- A plain message waits to go with the others of its queue; what takes more than that is sent at once, and may still be refused.
local function hand_over(e)
  if #e.commands ~= 1 or e.commands[1].operation ~= 'lpush' then return send(e.commands, e.id) end
  local waiting = waiting_for(e.commands[1].queue)
  waiting[#waiting + 1] = e.commands[1].payload
end

local statuses = {now_text}
for i, e in ipairs(batch) do
  local status = verdict(e, scores[i])
  if status == 'fired' then status = hand_over(e) or status end
  if status == 'fired' then record_decision(e) end
  statuses[i + 1] = status
end
push_all()
if #dues > 0 then redis.call('ZADD', due, unpack(dues)) end
return statuses
