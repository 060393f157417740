-- Makes of the table `task` one that is hash-partitioned by `user_id`. Nobody reads or writes tasks meanwhile.
-- What LIKE doesn't copy is made anew: the key, the index and the triggers. Grants and another owner stay behind.
BEGIN;
ALTER TABLE task RENAME TO task_plain;
-- The key has to have the column by which rows are spread. It is also the index of a user's tasks.
CREATE TABLE task (LIKE task_plain INCLUDING IDENTITY, PRIMARY KEY (user_id, id)) PARTITION BY HASH (user_id);
DO $$
BEGIN
  FOR number IN 0..63 LOOP
    EXECUTE format(
      'CREATE TABLE task_%s PARTITION OF task FOR VALUES WITH (MODULUS 64, REMAINDER %s)',
      lpad(number::text, 2, '0'), number
    );
  END LOOP;
END
$$;
INSERT INTO task OVERRIDING SYSTEM VALUE SELECT * FROM task_plain;
SELECT setval(pg_get_serial_sequence('task', 'id'), nextval(pg_get_serial_sequence('task_plain', 'id')), false);
DROP TABLE task_plain;
CREATE UNIQUE INDEX ix_task_user_id_idempotency_key ON task (user_id, idempotency_key)
  WHERE idempotency_key IS NOT NULL;
CREATE TRIGGER task_list_version_insert AFTER INSERT ON task REFERENCING NEW TABLE AS new_task
  FOR EACH STATEMENT EXECUTE FUNCTION raise_task_list_version();
CREATE TRIGGER task_list_version_update AFTER UPDATE ON task
  REFERENCING OLD TABLE AS old_task NEW TABLE AS new_task
  FOR EACH STATEMENT EXECUTE FUNCTION raise_task_list_version();
CREATE TRIGGER task_list_version_delete AFTER DELETE ON task REFERENCING OLD TABLE AS old_task
  FOR EACH STATEMENT EXECUTE FUNCTION raise_task_list_version();
CREATE TRIGGER task_list_version_truncate AFTER TRUNCATE ON task
  FOR EACH STATEMENT EXECUTE FUNCTION raise_task_list_version();
COMMIT;
