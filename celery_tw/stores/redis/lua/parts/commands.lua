-- COMMANDS: what the messages of one entry ask for, an operation on a key each. What may be refused is asked of objection_to before anything
-- is written, and send then carries all out, or tells what was refused after all. Needs now, kinds and by_task.
-- Operations: those of Redis; 'claim', a message for the outbox, with the delivery after a blank; 'count', a task that is open, with the ms
-- for which it counts; and to let a message wait in a lane, with its id or its template's: 'unused' (the key of the new entry), 'enter'
-- (id → now in the lane), 'share' (template id → its text), 'last' (template → its last due ms), 'list' (task id → what waits under it).

-- As a call brings them: how many, and per command its operation, the place of its queue among the keys from *first_queue* on, its payload.
local function read_commands(next_arg, first_queue)
  local commands = {}
  for i = 1, tonumber(next_arg()) do
    commands[i] = {operation = next_arg(), queue = KEYS[first_queue + tonumber(next_arg())], payload = next_arg()}
  end
  return commands
end

-- An id may be another's by now, and what stands in the place of a lane may be none.
local function objection_to(command)
  if command.operation == 'lpush' then return refusal(command.queue, 'the queue key', 'list') end
  if command.operation == 'unused' then return redis.call('EXISTS', command.queue) == 1 and 'refused TAKEN id, another has it' end
  return string.find(command.operation, '^enter ') and refusal(command.queue, 'the lane', 'zset')
end

local function objection_to_any(commands)
  for _, command in ipairs(commands) do
    local why = objection_to(command)
    if why then return why end
  end
end

-- Most slots ask for one plain message, and are spared the making of these functions.
local function operations_of_ours()
  local words = {}
  function words.claim(outbox, message, delivery, entry)
    return redis.pcall('XADD', outbox, '*', 'entry', entry, 'delivery', delivery, 'message', message)
  end
  -- What an entry's fires have open is told to the next slot; it is no reason to refuse this one, whose messages have gone by then.
  function words.count(open, task, kept)
    redis.pcall('HSET', open, task, 'queued ' .. string.format('%.0f', now + tonumber(kept)))
    if redis.call('PTTL', open) < tonumber(kept) then redis.call('PEXPIRE', open, kept) end
  end
  function words.unused() end -- seen before
  function words.enter(lane, _, id) return redis.pcall('ZADD', lane, 'NX', now_text, id) end
  function words.share(templates, text, id) return redis.pcall('HSETNX', templates, id, text) end
  function words.last(template_dues, id) return redis.pcall('ZADD', template_dues, 'GT', now_text, id) end
  function words.list(by_task, task, id)
    if task ~= '' then list_under(by_task, task, id) end
  end
  return words
end

local words
local function carry_out(command, entry)
  words = words or operations_of_ours()
  local word, rest = string.match(command.operation, '^(%l+) ?(.*)')
  if words[word] then return words[word](command.queue, command.payload, rest, entry) end
  return redis.pcall(command.operation, command.queue, command.payload)
end

-- Of several commands the one that may still be refused (a publish without the right to) goes first: then nothing of the entry has been sent.
local function send(commands, entry)
  for pass = 1, 2 do
    for _, command in ipairs(commands) do
      if (command.operation == 'publish') == (pass == 1) then
        local reply = carry_out(command, entry)
        if type(reply) == 'table' and reply.err then return 'refused ' .. reply.err end
      end
    end
  end
end
