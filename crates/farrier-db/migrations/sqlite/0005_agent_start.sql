-- When machines were told to start the agent for a task: what shows that one goes in circles.
CREATE TABLE agent_start (
    task BLOB    NOT NULL REFERENCES task (id) ON DELETE CASCADE,
    at   INTEGER NOT NULL
) STRICT;
CREATE INDEX agent_start_by_task ON agent_start (task, at);
CREATE INDEX agent_start_by_time ON agent_start (at);
