-- LETTING GO: let_go lets go of what a run holds by its guards, and returns the entries of those who waited and are made due.
-- From *first_kind* on, ARGV has the kind of each guard; from *first_key* on, KEYS has its key, who waits, and its head. *ending* tells of the run:
-- mid, task_id, verb, whether that is final, state, result; and due, reservation, idempotency_kept. Needs now.
-- The next in line is told by moving its entry in the timetable to now, and what it waits for is kept for it for the reservation.
local function let_go(first_kind, first_key, ending)
  if #ARGV < first_kind then return {} end
  local changed = {}
  local function next_in_line(guard, only)
    for _ = 1, 100 do
      local first = redis.call('ZRANGE', guard.wait, 0, 0)[1]
      if not first then return nil end
      local id, waiter = string.match(first, '^(%d+):(.*)$')
      if only and waiter ~= only then return nil end
      redis.call('ZREM', guard.wait, first)
      local due_ms = redis.call('ZSCORE', ending.due, id)
      if due_ms then
        if tonumber(due_ms) > now then
          redis.call('ZADD', ending.due, now_text, id)
          changed[#changed + 1] = id .. ':' .. now_text
        end
        return waiter
      end
    end
  end

  local release = {}
  function release.lock(guard)
    if redis.call('GET', guard.key) ~= ending.mid then return end
    redis.call('DEL', guard.key)
    local waiter = next_in_line(guard)
    if waiter then redis.call('SET', guard.key, waiter, 'PX', ending.reservation) end
  end
  function release.sem(guard)
    if redis.call('ZREM', guard.key, ending.mid) == 0 then return end
    local waiter = next_in_line(guard)
    if waiter then redis.call('ZADD', guard.key, string.format('%.0f', now + tonumber(ending.reservation)), waiter) end
  end
  function release.order(guard)
    if ending.final then
      redis.call('ZREM', guard.key, ending.mid)
      local head = redis.call('ZRANGE', guard.key, 0, 0)[1]
      if head then next_in_line(guard, head) end
    elseif redis.call('HGET', guard.head, 'mid') == ending.mid then
      redis.call('HSET', guard.head, 'since', now_text, 'started', '')
    end
  end
  function release.idem(guard)
    if redis.call('HGET', guard.key, 'mid') ~= ending.mid then return end
    local ran = ending.result and string.sub(ending.result, 1, 8) ~= '\0retries' and (ending.verb == 'done' or ending.state == 'ran' and not ending.final)
    if ran then
      redis.call('HSET', guard.key, 'result', ending.result)
      redis.call('PEXPIRE', guard.key, ending.idempotency_kept)
      while next_in_line(guard) do end
    elseif not redis.call('HGET', guard.key, 'result') then
      redis.call('DEL', guard.key)
      next_in_line(guard)
    end
  end
  function release.unique(guard)
    if ending.final and ending.verb ~= 'retried' and redis.call('GET', guard.key) == ending.task_id then redis.call('DEL', guard.key) end
  end

  for i = first_kind, #ARGV do
    local at = first_key + 3 * (i - first_kind)
    release[ARGV[i]]({key = KEYS[at], wait = KEYS[at + 1], head = KEYS[at + 2]})
  end
  return changed
end
