SELECT {{columns}} FROM meter.usage('{{name}}', {{start}}, {{stop}}, {{user}}, aggregation => 'unique_count', property => '{{property}}'{{more}});
