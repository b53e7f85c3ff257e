SELECT * FROM meter.list_events('calls', {{period}}, {{user}}, '{}', 100, {{after}});
