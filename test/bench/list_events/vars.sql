WITH ranked AS MATERIALIZED (
    SELECT *, format('%L::timestamptz, %s::bigint', "timestamp", id) AS place, row_number() OVER w AS rank, count(*) OVER () AS total
    FROM hand.usage_event WHERE meter_id = 1 WINDOW w AS (ORDER BY "timestamp", id)
), of_user AS (
    SELECT place, row_number() OVER (ORDER BY "timestamp", id) AS rank, count(*) OVER () AS total
    FROM ranked WHERE user_id = 'user-7'
)
SELECT (SELECT place FROM ranked WHERE rank = total / 2) AS middle,
       (SELECT place FROM ranked WHERE rank = 101) AS last,
       (SELECT place FROM of_user WHERE rank = greatest(total / 2, 1)) AS user_middle,
       (SELECT place FROM of_user WHERE rank = least(101, total)) AS user_last;
