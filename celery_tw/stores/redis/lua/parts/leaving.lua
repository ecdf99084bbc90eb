-- LEAVING: leave notes that a task goes from where it waits, and take that it goes for good; take_out and forget do what was noted, at the
-- end. Needs by_task, batch.
local left, gone_ids, gone_keys, gone_names, tasks, task_of = {}, {}, {}, {}, {}, {}

local function leave(i)
  local place = lane_of[i] or due
  local some = left[place]
  if not some then
    some = {}
    left[place] = some
  end
  some[#some + 1] = ids[i]
end

local function take(i, name, task)
  leave(i)
  gone_ids[#gone_ids + 1] = ids[i]
  gone_keys[#gone_keys + 1] = entry_keys[i]
  if name ~= '' then gone_names[#gone_names + 1] = name end
  if task ~= '' then
    tasks[#tasks + 1] = task
    task_of[#tasks] = ids[i]
  end
end

local function take_out()
  for place, some in pairs(left) do redis.call('ZREM', place, unpack(some)) end
end

local function strike_all_out()
  local listed, alone = redis.call('HMGET', by_task, unpack(tasks)), {}
  for i, task in ipairs(tasks) do
    if listed[i] == task_of[i] then alone[#alone + 1] = task else strike_out(by_task, task, task_of[i]) end
  end
  if #alone > 0 then redis.call('HDEL', by_task, unpack(alone)) end
end

local function forget()
  redis.call('DEL', unpack(gone_keys))
  if redis.call('EXISTS', held) == 1 then redis.pcall('HDEL', held, unpack(gone_ids)) end
  if #gone_names > 0 then redis.pcall('HDEL', names, unpack(gone_names)) end
  if #tasks > 0 then strike_all_out() end
end
