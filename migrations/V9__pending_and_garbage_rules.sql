-- Two rules shared by several statements: which uploads are pending, and when a discarded part is due for deletion.

-- An upload past its expiry is not pending, whether or not the sweeper has processed it.
create view pending_upload as
select * from upload where status = 'pending' and expires_at > now();

-- A stored part is due `grace` seconds from now. A part in state `receiving` may still have a writer until
-- `writer_lifetime` seconds after its row was inserted, and is due then, but not before now.
create function garbage_due(state text, created_at timestamptz, grace double precision, writer_lifetime double precision)
returns timestamptz language sql stable as $$
    select case state when 'stored' then now() + make_interval(secs => grace)
                      else greatest(now(), created_at + make_interval(secs => writer_lifetime)) end
$$;
