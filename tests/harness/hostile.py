"""Identifiers as an injector would try them, for every adapter that takes a name from a declaration (S-15)."""

IDENTIFIERS = (
    "sales'", 'sales"', "sales`", "sales;", "sales--", "sales/*", "sales#", "sales\\", "sales)", "(sales",
    'sales" OR "1"="1', "sales' OR '1'='1", "sales` OR `1`=`1", "sales; DROP TABLE sales",
    'sales"; DROP TABLE sales; --', "sales`; DROP TABLE sales; --", "sales UNION SELECT 1",
    'sales" UNION ALL SELECT NULL--', "(SELECT 1)",
    "sales WHERE 1=1", "sales LIMIT 1", "sales INTO OUTFILE '/tmp/x'", "sales FOR UPDATE", "pg_sleep(9)", "SLEEP(9)",
    "sales;SELECT pg_sleep(9)", "sales AND SLEEP(9)", "WAITFOR DELAY '0:0:9'", "dbms_pipe.receive_message('a',9)",
    "sales/**/UNION/**/SELECT/**/1", "/*!50000sales*/", "0x73616c6573", "CHAR(115)", "sales%00", "sales\x00", "sales\n",
    " sales", "sales ", "\u0455ales", "\uff53ales", "sales\u200b", "information_schema.tables", "pg_catalog.pg_class",
    "mysql.user", "sqlite_master", "..", "*", "?", "%s", "%(a)s", ":1", "$1", "{0}", "{{7*7}}", "${jndi:ldap://x}",
)  # fmt: skip
