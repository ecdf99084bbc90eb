-- IN ORDER: comes_late renews the lease of a leader who calls with the number of its first message, and tells whether a call that was sent
-- after this one has come before it. What that finds it answers 'moved', and sends nothing: so numbers grow in every queue.
-- PEXPIRE comes first: it is not refused when memory is full, and what follows a first write is not either.
local function comes_late(leader, lease, first_number)
  local late = first_number < (redis.call('HGET', leader, 'seq') or '')
  redis.call('PEXPIRE', leader, lease)
  if not late then redis.call('HSET', leader, 'seq', first_number) end
  return late
end
