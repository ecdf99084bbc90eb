-- FIRING: fire decides what becomes of a task whose turn it is, and returns its status; send_messages and forget_gone do what was decided,
-- at the end. Needs now, numbers, allowed, pushes, templates, batch, judging, leaving.
local fresh = {}

local function skip(i, name, task)
  take(i, name, task)
  local range = string.format('{"id":%s,"name":%s,"from_ms":%s,"to_ms":%s,"count":1,"reason":"misfire:skip"}',
    ids[i], cjson.encode(name), moments[i], moments[i])
  redis.pcall('ZADD', skips, now_text, range)
  return 'late'
end

-- A task for a lane goes to *enter*, if that is given and returns a status; any other is sent.
local number_of, match = numbers_from(first_number), string.match
local function fire(i, record, enter)
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
  local entered = enter and template.for_lane and enter(i, template, template_id)
  if entered then return entered end
  take(i, name, task)
  local waiting = template.waiting
  waiting[#waiting + 1] = outbox and {'entry', ids[i], 'delivery', template.delivery, 'message', message} or message
  if tonumber(stored) > now - fired_kept then
    fresh[#fresh + 1] = now_text
    fresh[#fresh + 1] = mid
  end
  return 'fired'
end

local function send_messages()
  for _, claim in ipairs(claims) do redis.call('XADD', outbox, '*', unpack(claim)) end
  push_all()
end

-- What has gone for good leaves behind it the mids that were fired, for as long as somebody may ask, and the skips.
local function forget_gone()
  if #gone_ids == 0 then return end
  forget()
  if #fresh > 0 then redis.pcall('ZADD', fired_key, unpack(fresh)) end
  redis.pcall('ZREMRANGEBYSCORE', fired_key, '-inf', string.format('%.0f', now - fired_kept))
  redis.pcall('ZREMRANGEBYSCORE', skips, '-inf', string.format('%.0f', now - skips_kept))
end
