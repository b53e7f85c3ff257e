\set u random(1, 1000)
\set v random(1, 5000)
SELECT {{theirs}};
