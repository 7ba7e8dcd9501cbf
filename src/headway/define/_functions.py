"""SQL functions that do not speak of one row alone, by name, as the DuckDB release we bind to has them.

A test compares the lists with the engine's own catalogue, so that a new release cannot bring one in unnoticed.
"""

_AGGREGATES = """
any_value approx_count_distinct approx_quantile approx_top_k arbitrary arg_max arg_max_null arg_max_nulls_last arg_min
arg_min_null arg_min_nulls_last argmax argmin array_agg avg bit_and bit_or bit_xor bitstring_agg bool_and bool_or
combine_aggr corr count count_if count_star countif covar_pop covar_samp decimal_average entropy favg first fsum geomean
geometric_mean group_concat histogram histogram_exact json_group_array json_group_object json_group_structure kahan_sum
kurtosis kurtosis_pop last list listagg lttb mad max max_by mean median min min_by mode product quantile quantile_cont
quantile_disc regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy
reservoir_quantile sem skewness stddev stddev_pop stddev_samp string_agg sum sum_no_overflow sumkahan var_pop var_samp
variance variant_group_array variant_group_object wavg weighted_avg
"""

_VOLATILE = """
ago current_catalog current_connection_id current_database current_date current_localtime current_localtimestamp
current_query current_query_id current_role current_schema current_schemas current_setting current_time
current_timestamp current_transaction_id current_user currval error gen_random_uuid get_current_time
get_current_timestamp getdate getvariable in_search_path localtime localtimestamp nextval now pg_conf_load_time
pg_postmaster_start_time pg_sleep rand random session_user setseed setval sleep_ms stats today transaction_timestamp
txid_current uuid uuidv4 uuidv7 vector_type write_log
"""

AGGREGATES = frozenset(_AGGREGATES.split())
VOLATILE = frozenset(_VOLATILE.split())
ROW_MULTIPLYING = frozenset({"unnest", "explode", "generate_subscripts", "regexp_split_to_table"})
