SELECT meter.sum_by(value, dimensions, '{model,region}') FROM {{table}};
