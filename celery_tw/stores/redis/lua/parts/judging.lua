-- JUDGING: template_of returns a template, read once a call, with what is to be said of all records of its kind: the status they have in
-- common, if any; with what their messages wait to be sent, and their delivery; whether they are for a lane. Needs kinds, pushes,
-- templates, batch.
local claims = {}
local function judge(t)
  if t.made_for ~= fingerprint then
    t.status = 'foreign'
  elseif not knows[outbox or t.queue] then
    t.status = 'undeclared ' .. t.queue
  else
    t.status = refusal(outbox or t.queue, 'the queue key', outbox and 'stream' or 'list')
  end
  t.waiting = outbox and claims or waiting_for(t.queue)
  t.delivery = find(t.extra, '"delivery":"at_most_once"', 1, true) and 'at_most_once' or 'at_least_once'
  t.for_lane = find(t.extra, '"lane":"', 1, true)
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
