SELECT meter.sum_by(value, dimensions, '{model,region}') FROM sum_by_bench;
