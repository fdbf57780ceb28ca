-- Events of a request, of a signed URL and of a command.
insert into audit_event (id, action, outcome, status, via, key_id, project, object, address, forwarded_for, request_id, user_agent)
select gen_random_uuid(), 'file.read', 'ok', 200, via, gen_random_uuid(), 'audited', 'file-00000017000070008000000000000001',
       '2001:db8::1', '192.0.2.1', 'req_1', 'curl/8'
from unnest('{key,signed_url}'::text[]) via;
insert into audit_event (id, action, outcome, via, operator, project)
values (gen_random_uuid(), 'project.change', 'ok', 'command_line', 'root@host', 'audited');
