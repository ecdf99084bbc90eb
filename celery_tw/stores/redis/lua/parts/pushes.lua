-- PUSHES: plain messages, which go to their queues together, in the order in which they were put into what waiting_for returns. A queue
-- that something waits for was seen to be a list, so nothing can refuse it.
local pushes, queues = {}, {}
local function waiting_for(queue)
  local waiting = pushes[queue]
  if not waiting then
    waiting = {}
    pushes[queue] = waiting
    queues[#queues + 1] = queue
  end
  return waiting
end

local function push_all()
  for _, queue in ipairs(queues) do
    local waiting = pushes[queue]
    for first = 1, #waiting, 1000 do
      redis.call('LPUSH', queue, unpack(waiting, first, math.min(first + 999, #waiting)))
    end
  end
end
