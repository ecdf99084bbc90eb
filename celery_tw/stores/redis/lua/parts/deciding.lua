-- DECIDING: record_decision records that a slot is decided, with what was missed before it; when the entries are due next is left for the end,
-- in dues. A backlog's slots are counted as runs when it is opened, so that `max_runs` holds whatever is fired first. Needs now, slots.

-- What people read of an entry must not hold it up: in place of what is no such list or set, a new one begins.
local function keep(key, ...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then
    redis.call('DEL', key)
    reply = redis.call(...)
  end
  return reply
end

local function drop(e)
  redis.call('ZREM', due, e.id)
  redis.call('DEL', e.key, e.history)
  if redis.call('HGET', names, e.drop) == e.id then redis.call('HDEL', names, e.drop) end
end

local dues = {}
local function advance(e)
  local fired = #e.commands > 0
  if fired then
    redis.call('HSET', e.key, 'mark', e.slot, 'count', e.count + 1, 'fired', now_text)
  else
    redis.call('HSET', e.key, 'mark', e.slot)
  end
  if e.next_due == '' then
    redis.call('ZREM', due, e.id)
  else
    dues[#dues + 1] = e.next_due
    dues[#dues + 1] = e.id
  end
  if fired and history_size > 0 and keep(e.history, 'LPUSH', e.history, e.slot .. ' ' .. now_text .. ' 0') > history_size + 10 then
    redis.call('LTRIM', e.history, 0, history_size - 1)
  end
end

local function record_decision(e)
  if e.drop ~= '' then drop(e) else advance(e) end
  if e.skip ~= '' then
    keep(e.skips, 'ZREMRANGEBYSCORE', e.skips, '-inf', string.format('%.0f', now - skips_kept))
    redis.call('ZADD', e.skips, e.skip_to, e.skip)
    redis.call('PEXPIRE', e.skips, skips_kept)
  end
  if e.backlog ~= '' then
    redis.call('DEL', e.backlog_key)
    redis.call('HSET', e.backlog_key, unpack(e.range))
    redis.call('ZADD', backlogs, now_text, e.backlog)
    redis.call('HINCRBY', e.key, 'count', e.left)
  end
end
