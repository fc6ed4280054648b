{{/* The autoscaler of the kind that the values name. A replica that goes has to drain, so they go one by one. */}}
{{- define "elf-team.horizontalPodAutoscaler" -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "elf-team.metadata" (dict "root" . "name" (include "elf-team.name" .)) | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "elf-team.name" . }}
  minReplicas: {{ .Values.autoscaling.minReplicas | int }}
  maxReplicas: {{ .Values.autoscaling.maxReplicas | int }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ .Values.autoscaling.cpuPercent | int }}
  behavior:
    {{- include "elf-team.scalingBehavior" . | nindent 4 }}
{{- end -}}

{{- define "elf-team.scaledObject" -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  {{- include "elf-team.metadata" (dict "root" . "name" (include "elf-team.name" .)) | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "elf-team.name" . }}
  minReplicaCount: {{ .Values.autoscaling.minReplicas | int }}
  maxReplicaCount: {{ .Values.autoscaling.maxReplicas | int }}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        {{- include "elf-team.scalingBehavior" . | nindent 8 }}
  triggers:
    - type: cpu
      metricType: Utilization
      metadata:
        value: {{ .Values.autoscaling.cpuPercent | int | quote }}
    {{- with .Values.autoscaling.keda.prometheus }}
    - type: prometheus
      metadata:
        serverAddress: {{ . | quote }}
        query: {{ include "elf-team.runsQuery" $ | quote }}
        threshold: {{ $.Values.autoscaling.keda.runsPerReplica | int | quote }}
    {{- end }}
    {{- include "elf-team.literals" .Values.autoscaling.keda.triggers | nindent 4 }}
{{- end -}}

{{- define "elf-team.scalingBehavior" -}}
scaleDown:
  stabilizationWindowSeconds: {{ .Values.autoscaling.scaleDownSeconds | int }}
  policies:
    - type: Pods
      value: 1
      periodSeconds: 60
{{- end -}}

{{/* Runs of the team that work or wait, in all of its pods. */}}
{{- define "elf-team.runsQuery" -}}
{{- $of := printf "{namespace=\"%s\",team=\"%s\"}" .Values.namespace (include "elf-team.name" .) -}}
sum(elf_runs_working{{ $of }}) + sum(elf_runs_queued{{ $of }})
{{- end -}}
