-- RERENDER: give a waiting one-time task a message for the present broker.
-- KEYS  1 leader  2 entry  3 due  4 held  5 templates  6 template-dues
-- ARGV  1 epoch  2 record as it was read  3 record to stand in its place  4 id  5 id of its template  6 the template
-- reply 1 done, 0 the task has gone or changed meanwhile. Neither its due time nor its name is touched.
local leader, entry, due, held, templates, template_dues = unpack(KEYS)
local epoch, old, new, id, template_id, template = unpack(ARGV)
if redis.call('HGET', leader, 'epoch') ~= epoch then return redis.error_reply('STALE epoch ' .. epoch) end
if redis.call('GET', entry) ~= old then return 0 end
redis.call('SET', entry, new)
redis.call('HSETNX', templates, template_id, template)
redis.call('ZADD', template_dues, 'GT', redis.call('ZSCORE', due, id) or redis.call('HGET', held, id) or '0', template_id)
return 1
