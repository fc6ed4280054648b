{{- define "elf-team.service" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "elf-team.metadata" (dict "root" . "name" (include "elf-team.name" .)) | nindent 2 }}
spec:
  type: ClusterIP
  selector:
    {{- include "elf-team.selectorLabels" . | nindent 4 }}
  ports:
    - name: http
      port: 8000
      targetPort: http
      protocol: TCP
      {{- with .Values.service.appProtocol }}
      appProtocol: {{ . | quote }}
      {{- end }}
    - name: metrics
      port: {{ .Values.ports.metrics | int }}
      targetPort: metrics
      protocol: TCP
    {{- if int .Values.ports.grpc }}
    - name: grpc
      port: {{ .Values.ports.grpc | int }}
      targetPort: grpc
      protocol: TCP
      {{- with .Values.service.grpcAppProtocol }}
      appProtocol: {{ . | quote }}
      {{- end }}
    {{- end }}
{{- end -}}
