-- ARRIVAL: one task comes to the timetable, and is stored once, whatever became of an earlier call and of its answer. Needs now.

local FIRED_KEPT_MS = 600000 -- as in keys.py

-- What an earlier call of its own, or somebody with the same id, has left: 'own', 'taken', 'fired', or nil for nothing.
local function found_before(entry, fired, mid)
  local holder = string.match(redis.call('GETRANGE', entry, 0, 300), '^%d+\n([^\n]*)\n')
  if holder then return holder == mid and 'own' or 'taken' end
  for _, marked in ipairs({mid, mid .. ' ' .. entry}) do
    local fired_ms = tonumber(redis.call('ZSCORE', fired, marked) or '')
    if fired_ms and now - fired_ms <= FIRED_KEPT_MS then return 'fired' end
  end
end

-- Whether what the first call stored has been cancelled since; a call that repeats none knows no *begun_ago*.
local function cancelled_since(cancelled, task, begun_ago)
  local stopped = begun_ago and redis.call('ZSCORE', cancelled, task)
  return stopped and now - tonumber(stopped) <= begun_ago
end

-- The reply to a call whose message its caller publishes. If it repeats another, that one may come after it, late, and must store nothing.
-- The mark is for calls with this entry alone: the caller may fail to publish, and the same mid be sent again, which is another call.
local function let_past(fired, mid, entry, begun_ago, status)
  if begun_ago ~= '' then
    redis.pcall('ZADD', fired, now_text, mid .. ' ' .. entry)
    redis.pcall('ZREMRANGEBYSCORE', fired, '-inf', string.format('%.0f', now - FIRED_KEPT_MS))
  end
  return {now_text, status}
end

-- SET comes first: a full memory refuses it, and then nothing has been written.
local function store_record(entry, mid, rest)
  redis.call('SET', entry, '1\n' .. mid .. '\n' .. now_text .. '\n' .. rest)
end

local function share_template(templates, template_dues, template_id, template, due_ms)
  redis.call('HSETNX', templates, template_id, template)
  redis.call('ZADD', template_dues, 'GT', due_ms, template_id)
end

local function raise_schema(schema_key, schema)
  if tonumber(redis.call('GET', schema_key) or '0') < tonumber(schema) then redis.call('SET', schema_key, schema) end
end
