-- SWEEP TEMPLATES: remove templates that no waiting task can need any more.
-- KEYS  1 leader  2 due  3 held  4 templates  5 template-dues; then the lanes in which something may wait
-- ARGV  1 epoch  2 templates kept ms  3 most templates removed  4 most held tasks looked at
-- reply how many were removed. A task waits under the due time that its template's last due time has seen, or an earlier one; so what was
-- last due before anything that waits is needed by nothing but, for a while, by people who look at what is in quarantine. What stands in the
-- place of a lane and is none counts as empty.
-- uses now
local leader, due, held, templates, dues = unpack(KEYS, 1, 5)
local epoch, kept, limit, most_held = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
if redis.call('HGET', leader, 'epoch') ~= epoch then return redis.error_reply('STALE epoch ' .. epoch) end
if redis.call('HLEN', held) > most_held then return 0 end
local first = math.min(now, tonumber(redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')[2] or now))
for i = 6, #KEYS do first = math.min(first, tonumber(redis.pcall('ZRANGE', KEYS[i], 0, 0, 'WITHSCORES')[2] or first)) end
for _, due_ms in ipairs(redis.call('HVALS', held)) do first = math.min(first, tonumber(due_ms) or 0) end
local ids = redis.call('ZRANGE', dues, '-inf', '(' .. string.format('%.0f', first - kept), 'BYSCORE', 'LIMIT', 0, limit)
if #ids > 0 then
  redis.call('ZREM', dues, unpack(ids))
  redis.call('HDEL', templates, unpack(ids))
end
return #ids
