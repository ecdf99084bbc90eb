-- BY TASK: which one-time tasks wait under a task id, task id → their ids with blanks between. Several may (a retry keeps its task id), so
-- list_under adds one, strike_out leaves the others, and is_listed looks for one.
local function list_under(by_task, task, id)
  local listed = redis.call('HGET', by_task, task)
  redis.call('HSET', by_task, task, listed and listed .. ' ' .. id or id)
end

local function strike_out(by_task, task, id)
  local left = {}
  for other in string.gmatch(redis.call('HGET', by_task, task) or '', '%d+') do
    if other ~= id then left[#left + 1] = other end
  end
  if #left > 0 then redis.call('HSET', by_task, task, table.concat(left, ' ')) else redis.call('HDEL', by_task, task) end
end

local function is_listed(by_task, task, id)
  return id and string.find(' ' .. (redis.call('HGET', by_task, task) or '') .. ' ', ' ' .. id .. ' ', 1, true) ~= nil
end
