SELECT (SELECT count(*) FROM meter.meter_event) = (SELECT count(*) FROM hand.usage_event)
    AND (SELECT count(*) FROM meter.event_key) = (SELECT count(*) FROM meter.meter_event);
