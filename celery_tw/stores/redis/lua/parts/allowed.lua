-- ALLOWED: objection_to_task tells why a message may not be sent when only tasks whose names match *patterns*, one a line, may be.
local function objection_to_task(message, patterns)
  local readable, envelope = pcall(cjson.decode, message)
  local headers = readable and type(envelope) == 'table' and envelope.headers
  local name = type(headers) == 'table' and headers.task
  if type(name) ~= 'string' then return 'its message does not tell its task, and tw_allowed_tasks is set' end
  for pattern in string.gmatch(patterns, '[^\n]+') do
    if string.find(name, pattern) then return nil end
  end
  return "the task '" .. name .. "' is not among tw_allowed_tasks"
end
